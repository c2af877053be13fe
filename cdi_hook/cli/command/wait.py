# SPDX-License-Identifier: Apache-2.0
"""cdi-hook wait: return when an exclusive device could be had."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cdi_hook.cli import host, output
from cdi_hook.inject import pipeline, request
from cdi_hook.inject.request import Facts
from cdi_hook.leases.in_use import InUse
from cdi_hook.leases.lessee import Lessee
from cdi_hook.leases.stock import Stock

if TYPE_CHECKING:
    import argparse

HELP = """\
Wait until a container could have an exclusive device (EXCLUSIVE in the
configuration), and print nothing then:

  cdi-hook wait nvidia.com/gpu=any && docker run --runtime cdi --annotation \\
      cdi.k8s.io/device=nvidia.com/gpu=any IMAGE

Nothing is taken: if another container comes first, docker run is refused.

exit status: 0 when the device could be had; 1 when time is up, or if no waiting
helps; 2 for wrong arguments"""

_POLL_S = 1.0


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a device; vendor.com/class=any is any that is free")
    parser.add_argument(
        "--timeout", metavar="S", type=float, default=float("inf"), help="wait for S seconds at most"
    )


def run(options: argparse.Namespace) -> int:
    end = time.monotonic() + options.timeout
    found = host.host(options)
    host.warn_of_problems(found)
    found.call = Facts(lessee=Lessee("self"))
    prefix = (*found.settings.words("ANNOTATION_PREFIXES"), "")[0]
    while True:
        oci = {"annotations": {f"{prefix}wait": options.name}}
        wanted = request.collect(oci, found.settings, "")
        registry = found.registry()
        stock = Stock(registry, found.lease_dir)
        try:
            injection = pipeline.Injection(oci, wanted, found, lambda *_: None, registry)
            with injection:
                injection.deal(stock, is_trial=True)
        except InUse as error:
            left_s = end - time.monotonic()
            if left_s <= 0:
                output.complain(str(error))
                return 1
            time.sleep(min(_POLL_S, left_s))
        else:
            return 0
