-- safe because: run by tests and by hand only; what is lost comes with the next heartbeats.
DROP TABLE node_progress;
