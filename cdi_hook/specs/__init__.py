# SPDX-License-Identifier: Apache-2.0
"""CDI spec files: reading, checking and writing one, and what those of several dirs define.

A container's start uses the index, and comes here only when a spec has changed.
Each module builds on those above it:

    compose      a file's text -> nodes, as go-yaml v2 parses it
    scalars      a scalar's text <-> its value
    decode       text -> values, as go-yaml v2 decodes it
    shape        text -> what a schema says, with findings
    versions     which CDI version a spec needs
    rules        what is wrong with a spec, as findings
    model        a spec's schema; Spec and Device, which are valid
    dump         a spec -> text
    specfile     a spec's file: reading it, writing it, its name
    cache        all specs of some dirs: which devices they define
"""
