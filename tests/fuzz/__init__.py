# SPDX-License-Identifier: Apache-2.0
"""Generated input for all that reads what somebody else wrote, each with something to hold it to.

A test that hypothesis feeds is a target. `make test` gives each target the same few inputs on every
run; `make fuzz` gives it others, for as long as is wanted (__main__.py). What a target
once failed on is an @example of it, or a case in tests/unit.
"""
