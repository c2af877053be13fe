# SPDX-License-Identifier: Apache-2.0
"""Which devices the spec dirs define: by an index while it is fresh, else by reading the specs."""
