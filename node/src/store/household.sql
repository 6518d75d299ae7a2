CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

-- The last command that each device took: stored before the device acts, so that none is taken twice.
CREATE TABLE channel (id BLOB PRIMARY KEY CHECK (length(id) = 32), last INTEGER NOT NULL) WITHOUT ROWID;

-- What became of every command.
CREATE TABLE verdict (
    number INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    channel BLOB NOT NULL CHECK (length(channel) = 32),
    sequence INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    control TEXT NOT NULL,
    refused TEXT -- why it was not taken
);

-- What devices did in an interval, Wh, as they or their meters said.
CREATE TABLE did (
    interval_ms INTEGER PRIMARY KEY,
    charge INTEGER NOT NULL,
    discharge INTEGER NOT NULL,
    vehicle INTEGER NOT NULL,
    heat INTEGER NOT NULL,
    curtailed INTEGER NOT NULL, -- 1: the inverter was told to generate less
    heat_need INTEGER NOT NULL,
    pv INTEGER -- generation, where it is known
);
