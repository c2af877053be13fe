# SPDX-License-Identifier: Apache-2.0
"""The version of cdi-hook. An index that another version wrote isn't read."""

__version__ = "0.1.0"
