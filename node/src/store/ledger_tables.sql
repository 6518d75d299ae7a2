-- Everything here follows from the blocks: `commonwatt ledger verify` compares every row, and a database of an older schema has
-- these tables made anew. Times are market time in Unix milliseconds, energy Wh, prices µ/kWh, amounts n (10⁻⁹ of the
-- currency); an amount is positive where the account or home receives it.

-- Rows lie in the order in which they are written, so that a block touches few pages of an SD card; what is asked by home or id
-- has an index over few rows. The indexes of the node's own home are made beside these tables.

CREATE TABLE entry (
    height INTEGER NOT NULL,
    position INTEGER NOT NULL,
    id BLOB NOT NULL,
    kind TEXT NOT NULL,
    home TEXT,
    PRIMARY KEY (height, position)
) WITHOUT ROWID;
-- Nine entries of ten are readings, and nobody asks for those by id but for a proof.
CREATE INDEX entry_id ON entry (id) WHERE kind <> 'reading';
-- Which statements of assurance are about the present meter.
CREATE INDEX entry_meter ON entry (home, height, position) WHERE kind = 'meter-registration';

CREATE TABLE leaf (
    position INTEGER PRIMARY KEY,
    height INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    outcome BLOB                    -- the body of an outcome; an entry's is in its block
);

-- Root of each 256 leaves.
CREATE TABLE tile (number INTEGER PRIMARY KEY, root BLOB NOT NULL);

-- The leaves of a tile whose blocks' bodies are gone: each with its length in 2 bytes, big-endian (C2SP tlog-tiles, entry bundle).
CREATE TABLE bundle (number INTEGER PRIMARY KEY, leaves BLOB NOT NULL);

-- Bodies that are kept when the others of their blocks go: this home's own, and those of public leaves.
CREATE TABLE body (
    leaf INTEGER PRIMARY KEY,
    height INTEGER NOT NULL,
    outcome INTEGER NOT NULL,       -- 1: of the state machine; 0: a signed entry
    bytes BLOB NOT NULL
);
CREATE INDEX body_height ON body (height) WHERE outcome = 0;

-- Blocks after which another set of delegates decides: header, certificate, that set. Kept for ever.
CREATE TABLE set_change (height INTEGER PRIMARY KEY, bytes BLOB NOT NULL);

CREATE TABLE settlement (
    interval_ms INTEGER NOT NULL,
    home TEXT NOT NULL,
    kind TEXT NOT NULL,             -- settled, late, correction
    height INTEGER NOT NULL,
    leaf INTEGER NOT NULL,          -- position of its leaf
    import_wh INTEGER,              -- NULL: no usable reading
    export_wh INTEGER,
    forward_wh INTEGER NOT NULL,    -- sold less bought
    forward_amount_n INTEGER NOT NULL,
    sold_wh INTEGER NOT NULL,
    bought_wh INTEGER NOT NULL,
    local_amount_n INTEGER NOT NULL,
    supplier_import_wh INTEGER NOT NULL,
    supplier_export_wh INTEGER NOT NULL,
    supplier_amount_n INTEGER NOT NULL,
    amount_n INTEGER NOT NULL,
    baseline_n INTEGER NOT NULL,
    claim_n INTEGER NOT NULL,
    loss_n INTEGER NOT NULL,        -- its part of the network's losses, in amount_n
    incentive_n INTEGER NOT NULL,   -- due from outside, not in amount_n
    quality TEXT,
    quantum_wh INTEGER NOT NULL,    -- smallest step of the registers of the home's meter as it was settled
    PRIMARY KEY (interval_ms, home, kind, height, leaf)
) WITHOUT ROWID;

-- What the home's own reading would come to, where the metering operator's readings settle: no money moved, and what is
-- settled replaces it. Columns as those of settlement; kind is always provisional.
CREATE TABLE provisional (
    interval_ms INTEGER NOT NULL,
    home TEXT NOT NULL,
    kind TEXT NOT NULL,
    height INTEGER NOT NULL,
    leaf INTEGER NOT NULL,
    import_wh INTEGER,
    export_wh INTEGER,
    forward_wh INTEGER NOT NULL,
    forward_amount_n INTEGER NOT NULL,
    sold_wh INTEGER NOT NULL,
    bought_wh INTEGER NOT NULL,
    local_amount_n INTEGER NOT NULL,
    supplier_import_wh INTEGER NOT NULL,
    supplier_export_wh INTEGER NOT NULL,
    supplier_amount_n INTEGER NOT NULL,
    amount_n INTEGER NOT NULL,
    baseline_n INTEGER NOT NULL,
    claim_n INTEGER NOT NULL,
    loss_n INTEGER NOT NULL,
    incentive_n INTEGER NOT NULL,
    quality TEXT,
    quantum_wh INTEGER NOT NULL,
    PRIMARY KEY (interval_ms, home, kind, height, leaf)
) WITHOUT ROWID;

CREATE TABLE interval (
    start_ms INTEGER PRIMARY KEY,
    import_price INTEGER NOT NULL,
    export_price INTEGER NOT NULL,
    matched_wh INTEGER NOT NULL,
    supplier_import_wh INTEGER NOT NULL,
    supplier_export_wh INTEGER NOT NULL,
    homes INTEGER NOT NULL,
    missing INTEGER NOT NULL,
    losses_wh INTEGER,
    height INTEGER NOT NULL,
    settled_ms INTEGER NOT NULL     -- time of the block that settled it
);

CREATE TABLE posting (
    height INTEGER NOT NULL,        -- 0: deposits of the genesis
    seq INTEGER NOT NULL,
    interval_ms INTEGER,
    account TEXT NOT NULL,          -- home:<id>, supplier, network, congestion, deposits
    kind TEXT NOT NULL,
    amount_n INTEGER NOT NULL,
    PRIMARY KEY (height, seq)
) WITHOUT ROWID;

CREATE TABLE account (
    name TEXT PRIMARY KEY,
    opening_n INTEGER NOT NULL,
    balance_n INTEGER NOT NULL,
    gone_n INTEGER NOT NULL DEFAULT 0       -- sum of its postings that are no longer stored
) WITHOUT ROWID;

CREATE TABLE reading (
    interval_ms INTEGER NOT NULL,
    home TEXT NOT NULL,             -- empty: the root meter
    import_register_wh INTEGER NOT NULL,
    export_register_wh INTEGER NOT NULL,
    quality TEXT NOT NULL,
    clock_quality TEXT NOT NULL,
    serial TEXT NOT NULL,
    epoch INTEGER NOT NULL,         -- counts the meters of the connection point and their resets
    quantum_wh INTEGER NOT NULL,    -- smallest step of the registers
    profile TEXT NOT NULL,          -- the first 16 hexadecimal digits of the device profile's SHA-256
    height INTEGER NOT NULL,
    PRIMARY KEY (interval_ms, home)
) WITHOUT ROWID;

CREATE TABLE evidence (
    home TEXT NOT NULL,
    from_ms INTEGER NOT NULL,       -- start of the interval of the first voltage
    voltage_dv BLOB NOT NULL,       -- mean phase voltages of consecutive intervals, 0.1 V, 2 bytes big-endian; 0: not known
    pv_peak_w INTEGER,              -- NULL: no PV plant declared
    pv_storage INTEGER,
    inverter_permille INTEGER,      -- energy of the inverter, per mille of its meter's
    height INTEGER NOT NULL,
    PRIMARY KEY (home, from_ms)
) WITHOUT ROWID;

CREATE TABLE assurance (
    home TEXT NOT NULL,
    until_ms INTEGER NOT NULL,      -- end of the last interval that was looked at
    level INTEGER NOT NULL,         -- 0 to 4
    transformer TEXT NOT NULL,      -- not applicable, unknown, consistent, contradicts
    transformer_figure INTEGER,     -- what is left over, per mille of the transformer's energy
    pv TEXT NOT NULL,
    pv_figure INTEGER,              -- export, per mille of what sun and peak power allow
    inverter TEXT NOT NULL,
    inverter_figure INTEGER,        -- the inverter's energy, per mille of its meter's
    voltage TEXT NOT NULL,
    voltage_figure INTEGER,         -- correlation with the neighbours, times 1000
    height INTEGER NOT NULL,
    position INTEGER NOT NULL,      -- of the statement in its block
    PRIMARY KEY (home, until_ms)
) WITHOUT ROWID;

CREATE TABLE market_order (
    id BLOB PRIMARY KEY,
    home TEXT NOT NULL,
    interval_ms INTEGER NOT NULL,   -- start of delivery
    side TEXT NOT NULL,             -- buy, sell
    price INTEGER NOT NULL,         -- its limit
    quantity_wh INTEGER NOT NULL,
    height INTEGER NOT NULL,
    position INTEGER NOT NULL       -- in its block
) WITHOUT ROWID;
CREATE INDEX market_order_interval ON market_order (interval_ms);

CREATE TABLE order_end (            -- no row while an order waits for its gate
    id BLOB PRIMARY KEY,
    home TEXT NOT NULL,
    how TEXT NOT NULL,              -- replaced, cancelled, filled, partly, unfilled, void
    filled_wh INTEGER NOT NULL,
    amount_n INTEGER NOT NULL,
    height INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE gate (                 -- gates with orders
    interval_ms INTEGER PRIMARY KEY,
    price INTEGER,                  -- before network fees; NULL: nothing could be traded
    volume_wh INTEGER NOT NULL,
    orders INTEGER NOT NULL,
    fees_n INTEGER NOT NULL,
    rent_n INTEGER NOT NULL,
    void INTEGER NOT NULL,          -- its block came after the start of delivery
    public INTEGER NOT NULL,        -- its leaf is
    homes INTEGER NOT NULL,         -- with an order
    buyers INTEGER NOT NULL,        -- homes that bought something
    sellers INTEGER NOT NULL,
    largest_wh INTEGER NOT NULL,    -- the most that one home traded
    height INTEGER NOT NULL,
    leaf INTEGER NOT NULL
);

CREATE TABLE gate_price (           -- of an auction, where the leaf of its gate is public
    interval_ms INTEGER NOT NULL,
    node TEXT NOT NULL,
    price INTEGER NOT NULL,
    height INTEGER NOT NULL,
    PRIMARY KEY (interval_ms, node)
) WITHOUT ROWID;

CREATE TABLE breach (               -- a connection carried more than the operator's cap
    home TEXT NOT NULL,
    interval_ms INTEGER NOT NULL,
    import_wh INTEGER NOT NULL,
    export_wh INTEGER NOT NULL,
    import_max_wh INTEGER NOT NULL,
    export_max_wh INTEGER NOT NULL,
    height INTEGER NOT NULL,
    leaf INTEGER NOT NULL,
    PRIMARY KEY (home, interval_ms, height, leaf)
) WITHOUT ROWID;

CREATE TABLE snapshot (height INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
