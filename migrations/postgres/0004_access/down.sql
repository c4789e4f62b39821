-- safe because: run by tests and by hand only; tokens are gone afterwards and have to be made anew.
DROP TABLE tokens;
