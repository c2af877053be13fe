# SPDX-License-Identifier: Apache-2.0
"""Edits of engines' configuration files: planned, shown as a diff, made in one step, every other byte kept.

plan.py decides which files change, and file_change.py changes a file. json_document.py,
toml_document.py and template.py edit a text; document.py is what all three are.
configuration.py reads all files of an engine.
"""
