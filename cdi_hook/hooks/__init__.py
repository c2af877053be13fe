# SPDX-License-Identifier: Apache-2.0
"""cdi-hook called by a runtime, or by podman, as a hook."""
