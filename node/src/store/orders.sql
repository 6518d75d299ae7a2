CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

-- Orders and cancels that this node signed for its home.
CREATE TABLE entry (
    number INTEGER PRIMARY KEY,     -- in the stream of orders of the member key
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 32),
    bytes BLOB NOT NULL,
    request TEXT NOT NULL UNIQUE,   -- what it was signed for: the same request never makes a second entry
    signed_ms INTEGER NOT NULL,     -- market time
    open INTEGER NOT NULL DEFAULT 1, -- to be sent until it is final
    height INTEGER,                 -- of the final block it stands in
    refused TEXT                    -- why the ledger did not take it
);
CREATE INDEX entry_unsettled ON entry (number) WHERE height IS NULL;
CREATE INDEX entry_signed ON entry (signed_ms);

-- The last number used: rows go after some weeks, numbers are used once for ever.
CREATE TABLE number (last INTEGER NOT NULL);
INSERT INTO number VALUES (0);
