-- safe because: run by tests and by hand only; usage is gone afterwards.
DROP TABLE usage_files;
DROP TABLE usage_outputs;
DROP TABLE usage_channels;
