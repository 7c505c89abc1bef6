"""The connections to Valkey's servers: they find, pipeline, redirect and reconnect."""
