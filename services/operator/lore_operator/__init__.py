"""The operator: keeps the fleet healthy, and is never on the path of a chunk.

A sweep reads the policy, the live requests and the generator pods, asks ``plan`` what to do, and
does it (``sweeper.py``). It runs every few seconds, and at once when a watch says that a pod or the
policy changed (``watch.py``). A watch may go silent; then only speed suffers.

Every action may be done twice, or by two operators at once. Leases and reaps are fenced in the
store, pods are named with their uid, and a status is written only over the version that was read.
So no leader election is needed. The operator writes no finalizer and no bookkeeping to any object,
so the policy and its kind can be deleted when the operator is gone. kopf is used for its login
alone: its watches keep versions and end with errors that they do not know, and its timers need a
finalizer.
"""
