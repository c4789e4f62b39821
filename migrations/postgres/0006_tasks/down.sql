-- safe because: run by tests and by hand only; tasks are gone afterwards and have to be ordered anew.
DROP INDEX recordings_task;
DROP TABLE tasks;
