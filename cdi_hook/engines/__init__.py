# SPDX-License-Identifier: Apache-2.0
"""The configuration of container engines: a file's text in, the edited text out. Nothing here reads a file.

An edit changes what it is about and no other byte, and made twice it is made
once. What an engine merges from several files is for whoever has the files.
"""
