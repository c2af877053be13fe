# SPDX-License-Identifier: Apache-2.0
"""What a virtual machine runs for the tests: each line from its port is a command, and is answered by a line.

A command is {"arguments", "environ", "stdin", "timeout"}, an answer [status, stdout,
stderr]; both are JSON. What a command left running goes on, so its output is in files.
"""

import glob
import json
import subprocess
import tempfile

(PORT,) = glob.glob("/dev/vport*")  # that can be opened only once

with open(PORT, "r+b", buffering=0) as port, open(port.fileno(), "rb", closefd=False) as commands:
    for line in commands:
        command = json.loads(line)
        with (
            tempfile.TemporaryFile() as source,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            source.write(command["stdin"].encode("latin-1"))
            source.seek(0)
            try:
                status = subprocess.run(
                    command["arguments"], env=command["environ"], cwd="/", stdin=source, stdout=out, stderr=err,
                    timeout=command["timeout"], check=False,
                ).returncode  # fmt: skip
            except (OSError, subprocess.TimeoutExpired) as error:
                status = 127
                err.write(str(error).encode())
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode("utf-8", "replace"))
        answer = json.dumps([status, *texts]).encode() + b"\n"
        while answer:
            answer = answer[port.write(answer) :]
