-- safe because: columns are only added, nullable, and never read or written by the release before.
--
-- recordings.inherited: the recording as it was when its current epoch took over (NULL in the first epoch);
-- claims.reply: the answer, word for word; files.epoch_index: the index that the writing node calls the file by, which
-- is another one than ours when two epochs used the same; nodes.drain: what an operator asked for.

ALTER TABLE recordings ADD COLUMN inherited BLOB;
ALTER TABLE claims ADD COLUMN reply BLOB;
ALTER TABLE files ADD COLUMN epoch_index BIGINT;
ALTER TABLE nodes ADD COLUMN drain BLOB;
CREATE INDEX files_epoch ON files (recording, format, epoch, epoch_index);
