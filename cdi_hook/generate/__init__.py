# SPDX-License-Identifier: Apache-2.0
"""What a host has -> CDI specs.

A class of devices (classes/ has a file for each with a structure of its own) finds them by root.py, which
reads the host, and sysfs.py; node_edits.py makes the edits for device nodes, spec_data.py specs, and
outputs.py writes these. renewal.py compares them with the host later.
"""
