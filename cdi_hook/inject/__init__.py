# SPDX-License-Identifier: Apache-2.0
"""The one way from an OCI spec to its devices: request, policy, edits, changes, and what is said of them."""
