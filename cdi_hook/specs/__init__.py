# SPDX-License-Identifier: Apache-2.0
"""CDI spec files: reading, checking and writing one, and the devices of several dirs.

A container's start uses the index; it imports this only if a spec has changed. Each
module builds on those above it:

    compose      a file's text -> nodes, as go-yaml v2 parses it
    scalars      a scalar's text <-> its value
    decode       text -> values, as go-yaml v2 decodes it
    shape        text -> values of a schema's types, and findings
    versions     the CDI version that a spec needs
    rules        a spec's errors, as findings
    model        a spec's schema; Spec and Device, which are valid
    dump         a spec -> text
    specfile     a spec's file: reading it, writing it, its name
    cache        all specs of some dirs, and the devices they define
    turn         one process at a time builds an index
    compiled     a cache -> the index
"""
