-- safe because: run by tests and by hand only; objects still to be deleted are forgotten.
DROP TABLE blocks;
DROP TABLE deletion_objects;
DROP TABLE deletions;
