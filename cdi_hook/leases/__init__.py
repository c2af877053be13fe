# SPDX-License-Identifier: Apache-2.0
"""Which container has which exclusive device, for as long as that container exists.

    same.py        what a device's name stands for on this host, and whether two names stand for the same
    store.py       the leases: one file, a lock beside it
    life.py        the processes that create a container
    claims.py      what each user tells the others of theirs
    neighbours.py  what other users' containers have, as these users claim it
    choice.py      which names `any` may take, and in which order
    taking.py      one container takes a lease, or hears who is in its way
    inquiry.py     whether the containers that are in the way are still there

A lease is taken before the runtime starts. Nobody releases it: whoever wants its device next asks
whether its container still exists. inject/deal.py says what a request wants. Nothing here is imported
unless the configuration has EXCLUSIVE or DENY.
"""
