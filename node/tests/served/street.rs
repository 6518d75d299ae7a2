//! A node's API behind which a ledger really takes, or refuses, what is handed in; and the program that talks to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use ed25519_dalek::SigningKey;
use energy::{HomeId, Interval, Mtu, NodeId, Timestamp};
use ledger::codec::Decode;
use ledger::{
    Certificate, Genesis, Ledger, PublicKey, Signature, SignedEntry, VerifiedEntry, VoteKind,
    vote_signing_bytes,
};
use node::genesis_file;
use node::http::{About, HttpState, Language, Live, TokenHash, member_of, serve};
use node::identity::{self, Identity};
use node::store::Durability;
use node::store::ledger_db::LedgerDb;
use node::zone::Zone;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Market time of the node.
const NOW: &str = "2026-10-24T10:00:00Z";

pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    #[track_caller]
    pub fn with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn saying(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} is not in\n{}", self.stderr);
        }
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}:\n{}", self.stdout))
    }
}

pub fn home(name: &str) -> HomeId {
    HomeId::new(name).unwrap()
}

pub fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub fn at(time: &str) -> Interval {
    Interval::parse(time, Mtu::Min15).unwrap()
}

fn key(folder: &Path, name: &str) -> SigningKey {
    identity::load_or_create_key(&folder.join(format!("{name}.key"))).unwrap()
}

/// What one community agreed on other than another.
pub struct Agreed {
    /// On each member's account at the start, n.
    pub deposit_n: u64,
    /// How far the supplier's account may go below zero, n.
    pub supplier_credit_n: u64,
    /// Further lines before the tariff.
    pub market: &'static str,
}

/// Two homes on one feeder.
fn genesis_toml(folder: &Path, own: &Identity, agreed: &Agreed) -> String {
    let public = |name: &str| PublicKey::of(&key(folder, name)).hex();
    let Agreed { deposit_n, supplier_credit_n, market } = agreed;
    let member = |name: &str, share: u32, [member, reading, network]: [PublicKey; 3]| {
        format!(
            "[[member]]\nhome = \"{name}\"\nowner = \"{name}\"\nnode = \"f1\"\nshare_permyriad = {share}\n\
             deposit_n = {deposit_n}\n\
             keys = {{ member = \"{}\", reading = \"{}\", network = \"{}\" }}\n\
             meter = {{ serial = \"m-{name}\", profile_hash = \"{}\" }}\n",
            member.hex(),
            reading.hex(),
            network.hex(),
            "07".repeat(32)
        )
    };
    let own_keys = own.keys();
    let other = ["a", "b", "c"].map(|name| PublicKey::of(&key(folder, name)));
    format!(
        "name = \"Lane\"\ncurrency = \"EUR\"\nstart = 2026-10-24T09:00:00Z\nsupplier_credit_n = {supplier_credit_n}\n\
         {market}\
         [tariff]\nimport_price = 250000\nexport_price = 80000\n\
         [caps]\nprice_min = 0\nprice_max = 500000\ntransfer_max_n = 1000000000000\n\
         [roles]\noperator = \"{}\"\ntreasurer = \"{}\"\nauditor = \"{}\"\nmetering_operator = \"{}\"\n\
         [[node]]\nid = \"grid\"\n[[node]]\nid = \"f1\"\nparent = \"grid\"\nfee_down = 10000\n{}{}\
         [[delegate]]\nhome = \"h1\"\nkey = \"{}\"\n",
        public("operator"),
        public("treasurer"),
        public("auditor"),
        public("metering"),
        member("h1", 2_000, [own_keys.member, own_keys.reading, own_keys.network]),
        member("h2", 5_000, other),
        own.consensus_public().unwrap().hex()
    )
}

/// What carries blocks out and stores them.
struct Chain {
    ledger: Ledger,
    db: LedgerDb,
    term: SigningKey,
}

impl Chain {
    /// A block at `time` or as soon after the last one as can be.
    fn block(&mut self, time: Timestamp, entries: &[VerifiedEntry]) {
        let time = self.ledger.head_time().plus_ms(1_000).max(time);
        let executed = self.ledger.propose(time, entries).unwrap().executed;
        self.ledger = executed.ledger.clone();
        let (height, block) = (executed.block.header.height, executed.block.id());
        let message = vote_signing_bytes(self.ledger.chain(), VoteKind::Precommit, height, 0, Some(&block));
        let signatures = vec![(0, Signature::sign(&self.term, &message))];
        self.db.commit(&executed, &Certificate { height, round: 0, block, signatures }, 1, 1).unwrap();
    }
}

/// A folder with the keys of a community, the node of h1 and its API.
pub struct Street {
    folder: TempDir,
    chain: Arc<Mutex<Chain>>,
    /// What becomes a block in place of the next entry that is handed in.
    pub instead: Arc<Mutex<Option<SignedEntry>>>,
}

impl Street {
    pub async fn start(agreed: &Agreed) -> Self {
        Self::with(agreed, |text| text).await
    }

    /// The same with the genesis file changed.
    pub async fn with(agreed: &Agreed, change: impl FnOnce(String) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own = Identity::create(&folder.path().join("h1")).unwrap();
        let text = change(genesis_toml(folder.path(), &own, agreed));
        fs::write(folder.path().join("genesis.toml"), text).unwrap();
        let genesis: Genesis = genesis_file::load(&folder.path().join("genesis.toml")).unwrap();
        let path = folder.path().join("h1/ledger.db");
        let chain = Chain {
            ledger: Ledger::genesis(&genesis).unwrap(),
            db: LedgerDb::open(&path, Durability::Normal, &genesis, &home("h1")).unwrap(),
            term: own.consensus().unwrap().clone(),
        };
        let street = Self { folder, chain: Arc::new(Mutex::new(chain)), instead: Arc::default() };
        street.serve(&own).await;
        street
    }

    /// A node's API; whatever it is handed becomes a block if the ledger takes it.
    async fn serve(&self, own: &Identity) {
        let now = Timestamp::parse(NOW).unwrap();
        self.block(NOW);
        let chain_id = *self.chain.lock().unwrap().ledger.chain();
        let live = Live::new(About {
            name: "Lane".to_owned(),
            home: home("h1"),
            chain: chain_id.id.0,
            currency: "EUR".to_owned(),
            mtu: Mtu::Min15,
            speed: 1,
            market_time: Box::new(move || now),
        });
        live.set_member(member_of(&self.chain.lock().unwrap().ledger, &home("h1")));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.write(
            "node.toml",
            &format!("home = \"h1\"\ndata_dir = \"h1\"\n[api]\nlisten = \"{address}\"\n"),
        );
        let (submit, mut entries) = mpsc::channel::<Vec<u8>>(8);
        let state = HttpState {
            household: None,
            live: Arc::clone(&live),
            database: self.folder.path().join("h1/ledger.db"),
            home: home("h1"),
            token: TokenHash::of(own.api_token()),
            submit: Some(submit),
            engine: None,
            desk: None,
            language: Language::English,
            hosts: Vec::new(),
            zone: Zone::UTC,
        };
        tokio::spawn(serve(listener, state, std::future::pending()));
        let (chain, instead) = (Arc::clone(&self.chain), Arc::clone(&self.instead));
        tokio::spawn(async move {
            while let Some(bytes) = entries.recv().await {
                let mut chain = chain.lock().unwrap();
                let other = instead.lock().unwrap().take();
                let signed = other.unwrap_or_else(|| SignedEntry::from_bytes(&bytes).unwrap());
                chain.block(now, &[signed.verify(&chain_id).unwrap()]);
                live.set_member(member_of(&chain.ledger, &home("h1")));
            }
        });
    }

    /// An empty block, which does what market time has made due.
    pub fn block(&self, time: &str) {
        self.chain.lock().unwrap().block(Timestamp::parse(time).unwrap(), &[]);
    }

    /// Blocks often enough to be no outage, until an hour after the first interval.
    pub fn until_the_first_settles(&self) {
        for minute in ["05", "10", "15", "20"] {
            self.block(&format!("2026-10-24T10:{minute}:00Z"));
        }
    }

    /// A file of the street's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Words are separated by spaces; `_` within a word stands for one.
    pub async fn call(&self, line: &str) -> Ended {
        let words: Vec<String> = line.split_whitespace().map(|word| word.replace('_', " ")).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_commonwatt"));
        command.current_dir(self.folder.path()).env_remove("COMMONWATT_LOG").env_remove("COMMONWATT_CONFIG");
        command.args(words).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub fn look<T>(&self, at: impl FnOnce(&Ledger) -> T) -> T {
        at(&self.chain.lock().unwrap().ledger)
    }
}
