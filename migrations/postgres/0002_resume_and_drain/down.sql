-- safe because: the release before knows nothing of these columns.
DROP INDEX files_epoch;
ALTER TABLE nodes DROP COLUMN drain;
ALTER TABLE files DROP COLUMN epoch_index;
ALTER TABLE claims DROP COLUMN reply;
ALTER TABLE recordings DROP COLUMN inherited;
