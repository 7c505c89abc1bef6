"""The operator: keeps the fleet healthy, and is never on the path of a chunk.

A sweep reads the policy, the live requests and the generator pods, asks ``plan`` what to
do, and does it (``sweeper.py``). It happens every few seconds, and at once when a watch
says that a pod or the policy changed (``watch.py``): a watch may go silent, and then it is
only the speed that suffers.

Everything it does may be done twice, or by two operators at once. Leases and reaps are
fenced in the store, pods are named with their uid, and a status is written only over the
version that was read. Hence no leader election. It writes no finalizer and no bookkeeping
to any object, so that the policy and its kind can be deleted when the operator is gone.
kopf's watches keep versions and end with what they cannot understand, and its timers need a
finalizer; so it only logs in.
"""
