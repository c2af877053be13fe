# SPDX-License-Identifier: Apache-2.0
"""One CDI spec file: its text <-> a valid Spec, or findings.

A container's start uses the index; it imports this only if a spec has changed. Each
module builds on those above it:

    yaml_nodes   a file's text -> nodes, as go-yaml v2 parses it
    scalars      a scalar's text <-> its value
    yaml_values  text -> values, as go-yaml v2 decodes it
    versions     the CDI version that a spec needs
    shape        text -> values of a schema's types, and findings
    validation   a spec's errors, as findings
    model        a spec's schema; Spec and Device, which are valid
    dump         a spec -> text
    specfile     a spec's file: reading it, writing it, its name
"""
