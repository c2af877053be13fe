# SPDX-License-Identifier: Apache-2.0
"""What cdi-hook.conf says, each value with where it stands, and the same for the shell of cdi-runtime."""
