# SPDX-License-Identifier: Apache-2.0
"""The packages: what they install, and their life on a machine."""
