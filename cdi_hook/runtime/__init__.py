# SPDX-License-Identifier: Apache-2.0
"""cdi-runtime: the arguments of a runtime in, the real runtime out."""
