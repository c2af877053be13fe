# SPDX-License-Identifier: Apache-2.0
"""The commands of cdi-hook, one file each; ../commands.py has their table."""
