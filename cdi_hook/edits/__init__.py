# SPDX-License-Identifier: Apache-2.0
"""The one table of kinds of container edits: how each becomes changes of an OCI spec, and what hinders it."""
