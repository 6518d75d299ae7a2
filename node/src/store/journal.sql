CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

-- Own signed entries, in the order in which they were signed. `open`: to be sent until it is final.
CREATE TABLE entry (
    sequence INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 32),
    bytes BLOB NOT NULL,
    open INTEGER NOT NULL DEFAULT 1,
    height INTEGER, -- of the final block it stands in
    refused TEXT    -- why the ledger can never take it
);
CREATE INDEX entry_open ON entry (sequence) WHERE open;

-- Readings among them.
CREATE TABLE reading (
    record_number INTEGER PRIMARY KEY,
    interval_ms INTEGER NOT NULL,
    entry INTEGER NOT NULL REFERENCES entry (sequence)
);

-- The last record, of this journal or known from the ledger: what the next one points back to.
CREATE TABLE head (record_number INTEGER NOT NULL, hash BLOB NOT NULL CHECK (length(hash) = 32));
INSERT INTO head VALUES (0, zeroblob(32));

-- The last number used in each stream: readings, orders, rest.
CREATE TABLE number (stream INTEGER PRIMARY KEY, last INTEGER NOT NULL);
INSERT INTO number VALUES (0, 0), (1, 0), (2, 0);
