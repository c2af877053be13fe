# SPDX-License-Identifier: Apache-2.0
"""A container that is being created: its namespaces, and its root, by descriptors alone."""
