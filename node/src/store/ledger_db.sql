-- What a ledger database is of, and its blocks: they stay as they were stored, whatever becomes of the tables. Times are market
-- time in Unix milliseconds.

CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

CREATE TABLE block (
    height INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    time_ms INTEGER NOT NULL,
    round INTEGER NOT NULL,
    entry_count INTEGER NOT NULL,
    header BLOB NOT NULL,
    entries BLOB NOT NULL,          -- the whole block, header and entries; empty: no longer stored
    certificate BLOB NOT NULL,      -- empty: no longer stored
    decided_wall_ms INTEGER NOT NULL,       -- this and the next as this node measured them
    finality_ms INTEGER NOT NULL,
    checksum BLOB NOT NULL          -- SHA-256 of header, entries, certificate and the two times (8 bytes each)
);
