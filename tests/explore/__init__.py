"""Every interleaving of a small system, with the real protocol and store code in it.

Two generators, one store, two edges with a reader each, and an answer of three tokens. What
the simulator (``tests/sim``) samples at random on a large scale, this explores without a gap
on a small one, breadth first, so that a violation shows its shortest path.

Time is taken out: every duration is 0, so each timer is due as soon as it is set, and the
explorer chooses when it goes off. The store's clock stands still until a lease lapses.

* ``bounds.py``: what may go wrong, how often, and the scopes that are explored
* ``depot.py``: the store, with what its log has ever held
* ``maker.py``, ``calls.py``: a generator and its calls
* ``line.py``, ``edge.py``, ``channel.py``: a reader, the edge it reads from, and what is between
* ``parts.py``, ``space.py``: the states and the steps between them; ``search.py``: the search
"""
