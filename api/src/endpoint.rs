//! Every address of the API in one table, and the OpenAPI document made from it.

use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem, Paths,
};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{ComponentsBuilder, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Content, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, ResponseBuilder, ResponsesBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use crate::{
    Assurance, Balance, BlockRow, CancelRequest, Event, Health, Household, IntervalRow, MarketBook,
    MarketCurve, MarketHistory, MarketRules, Member, Meters, OrderEntries, OrderEntry, OrderRequest,
    PAGE_DEFAULT, PAGE_MAX, PROBLEM_MEDIA_TYPE, Page, Peers, Problem, ReadingRow, SettlementRow, Status,
    Submitted, Today,
};

type Schemas = Vec<(String, RefOr<Schema>)>;

/// One address of the API.
#[derive(Clone, Copy)]
pub struct Endpoint {
    /// The path, from the root of the server.
    pub path: &'static str,
    /// What it is for, one sentence.
    pub summary: &'static str,
    /// True for `POST`, otherwise `GET`.
    pub post: bool,
    /// True if it takes JSON; otherwise a `POST` takes bytes.
    pub json: bool,
    /// True if it needs no token.
    pub open: bool,
    /// Media type of the answer.
    pub media_type: &'static str,
    query: &'static [(&'static str, Type, &'static str)],
    body: fn(&mut Schemas) -> RequestBody,
    answer: fn(&mut Schemas) -> RefOr<Schema>,
}

const JSON: &str = "application/json";

const PAGED: &[(&str, Type, &str)] = &[
    ("limit", Type::Integer, "how many rows, 1 to 500; 100 if absent"),
    ("cursor", Type::String, "next_cursor of the page before"),
];

const fn get(
    path: &'static str,
    summary: &'static str,
    answer: fn(&mut Schemas) -> RefOr<Schema>,
) -> Endpoint {
    Endpoint {
        path,
        summary,
        post: false,
        json: false,
        open: false,
        media_type: JSON,
        query: &[],
        body: entry_body,
        answer,
    }
}

/// Takes a JSON document and answers with another.
const fn post_json(
    path: &'static str,
    summary: &'static str,
    body: fn(&mut Schemas) -> RequestBody,
    answer: fn(&mut Schemas) -> RefOr<Schema>,
) -> Endpoint {
    Endpoint { post: true, json: true, body, ..get(path, summary, answer) }
}

const INTERVAL: (&str, Type, &str) =
    ("interval", Type::String, "start of the interval, RFC 3339; the first that is open if absent");

/// Every address of the API.
pub const ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/status", "The node at a glance.", reference::<Status>),
    Endpoint {
        query: &[
            ("day", Type::String, "the day as YYYY-MM-DD; the running one if absent"),
            ("series", Type::Boolean, "false leaves the intervals of the day out"),
        ],
        ..get("/api/v1/today", "One day of this home.", reference::<Today>)
    },
    Endpoint {
        query: PAGED,
        ..get("/api/v1/intervals", "Settled intervals of the community, newest first.", page::<IntervalRow>)
    },
    Endpoint {
        query: PAGED,
        ..get("/api/v1/settlements", "Settlements of this home, newest first.", page::<SettlementRow>)
    },
    get(
        "/api/v1/member",
        "This home as the ledger knows it, for programs that sign for it.",
        reference::<Member>,
    ),
    get("/api/v1/balance", "The account of this home.", reference::<Balance>),
    Endpoint {
        query: PAGED,
        ..get("/api/v1/readings", "Readings of this home on the ledger, newest first.", page::<ReadingRow>)
    },
    get(
        "/api/v1/assurance",
        "How far this home's meter can be believed, and how many homes stand at which level.",
        reference::<Assurance>,
    ),
    Endpoint { query: PAGED, ..get("/api/v1/blocks", "Final blocks, newest first.", page::<BlockRow>) },
    get(
        "/api/v1/ledger/delegates",
        "Who decides blocks, by keys, and this home's own part in it.",
        reference::<crate::Delegates>,
    ),
    get("/api/v1/ledger/head", "The last final block.", reference::<crate::LedgerHead>),
    Endpoint {
        query: &[("height", Type::Integer, "which block")],
        ..get(
            "/api/v1/ledger/block",
            "One final block: its header, who signed it, kinds and ids of its entries.",
            reference::<crate::LedgerBlock>,
        )
    },
    Endpoint {
        query: &[
            ("from", Type::String, "from this market time on, RFC 3339; a day before until if absent"),
            ("until", Type::String, "until this market time; now if absent"),
        ],
        ..get(
            "/api/v1/ledger/missed",
            "Blocks that came late or took more than one round, and who did not sign.",
            reference::<crate::Missed>,
        )
    },
    post_json(
        "/api/v1/ledger/recovery",
        "A step of a recovery of the chain, after 24 hours without a block.",
        json_body::<crate::RecoveryRequest>,
        reference::<crate::RecoveryAnswer>,
    ),
    get(
        "/api/v1/ledger/holdings",
        "What of the chain this node holds, and by which rules it goes on.",
        reference::<crate::Holdings>,
    ),
    Endpoint {
        query: &[
            ("entry", Type::String, "id of an entry, 64 hexadecimal digits"),
            ("leaf", Type::Integer, "position of a leaf of the transparency tree instead"),
        ],
        ..get(
            "/api/v1/ledger/proof",
            "Proof that an entry or result of this home, or a public one, is on the chain.",
            reference::<crate::ChainProof>,
        )
    },
    get("/api/v1/peers", "The connected peers.", reference::<Peers>),
    get(
        "/api/v1/household",
        "What the household's agent plans for its devices, and what it told them.",
        reference::<Household>,
    ),
    get("/api/v1/meters", "The meters of this home and what flows where.", reference::<Meters>),
    Endpoint {
        media_type: "text/event-stream",
        ..get(
            "/api/v1/events",
            "Events as they happen; Last-Event-ID resumes after a lost connection.",
            reference::<Event>,
        )
    },
    Endpoint {
        post: true,
        ..get(
            "/api/v1/entries",
            "Hands in one signed ledger entry in its canonical encoding.",
            reference::<Submitted>,
        )
    },
    Endpoint {
        query: &[("hours", Type::Integer, "how far ahead, 1 to 48; 24 if absent")],
        ..get(
            "/api/v1/market/rules",
            "The rules of the market, and what this home may do in it.",
            reference::<MarketRules>,
        )
    },
    Endpoint {
        query: &[("interval", Type::String, "start of one interval, RFC 3339; every one if absent")],
        ..get(
            "/api/v1/market/book",
            "This home's open orders and positions, and totals of the community where they show nobody.",
            reference::<MarketBook>,
        )
    },
    Endpoint {
        query: &[INTERVAL],
        ..get("/api/v1/market/curve", "What the gate of an interval came to.", reference::<MarketCurve>)
    },
    Endpoint {
        query: &[
            ("days", Type::Integer, "how many days back, 1 to 31; 7 if absent"),
            ("limit", Type::Integer, "how many rows, 1 to 500; 100 if absent"),
            ("cursor", Type::String, "next_cursor of the answer before"),
        ],
        ..get(
            "/api/v1/market/history",
            "This home's orders and fills, and what they brought against the supplier alone.",
            reference::<MarketHistory>,
        )
    },
    Endpoint {
        query: &[
            ("id", Type::String, "id of one entry; the newest ones if absent"),
            ("request_id", Type::String, "the request it was signed for"),
        ],
        ..get(
            "/api/v1/market/entries",
            "Orders and cancels that this node signed, and whether the ledger holds them.",
            reference::<OrderEntries>,
        )
    },
    post_json(
        "/api/v1/market/order",
        "Has the node sign an order for its home, if the ledger would take it.",
        json_body::<OrderRequest>,
        reference::<OrderEntry>,
    ),
    post_json(
        "/api/v1/market/cancel",
        "Has the node take an open order of its home back.",
        json_body::<CancelRequest>,
        reference::<OrderEntry>,
    ),
    get("/api/v1/openapi.json", "This document.", any_object),
    Endpoint { open: true, ..get("/healthz", "Whether the program is alive.", reference::<Health>) },
    Endpoint {
        open: true,
        ..get("/readyz", "Whether it does its work, and if not, why.", reference::<Health>)
    },
];

/// The OpenAPI 3.1 document of the API.
#[must_use]
pub fn openapi() -> OpenApi {
    let mut schemas = Vec::new();
    let mut paths = Paths::new();
    for endpoint in ENDPOINTS {
        let method = if endpoint.post { HttpMethod::Post } else { HttpMethod::Get };
        paths
            .paths
            .insert(endpoint.path.to_owned(), PathItem::new(method, operation(endpoint, &mut schemas)));
    }
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("the content of the file api.token in the node's data directory"))
        .build();
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Commonwatt node")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some("What one node knows: its home, its community, its ledger."))
                .build(),
        )
        .paths(paths)
        .components(Some(
            ComponentsBuilder::new()
                .schemas_from_iter(schemas)
                .security_scheme("token", SecurityScheme::Http(bearer))
                .build(),
        ))
        .build()
}

fn operation(endpoint: &Endpoint, schemas: &mut Schemas) -> Operation {
    let content = Content::new(Some((endpoint.answer)(schemas)));
    let problem = Content::new(Some(reference::<Problem>(schemas)));
    let responses = ResponsesBuilder::new()
        .response(
            if endpoint.post { "202" } else { "200" },
            ResponseBuilder::new().description("as asked").content(endpoint.media_type, content),
        )
        .response(
            "default",
            ResponseBuilder::new().description("what went wrong").content(PROBLEM_MEDIA_TYPE, problem),
        );
    let name = endpoint.path.trim_start_matches("/api/v1/").trim_start_matches('/');
    let name = name.trim_end_matches(".json").replace('/', "-");
    let operation = OperationBuilder::new()
        .operation_id(Some(name))
        .summary(Some(endpoint.summary))
        .parameters(Some(endpoint.query.iter().map(parameter)))
        .request_body(endpoint.post.then(|| (endpoint.body)(schemas)))
        .responses(responses.build());
    if endpoint.open {
        return operation.build();
    }
    operation.security(SecurityRequirement::new("token", Vec::<String>::new())).build()
}

fn parameter((name, kind, description): &(&'static str, Type, &'static str)) -> Parameter {
    let mut schema = ObjectBuilder::new().schema_type(SchemaType::Type(kind.clone()));
    if *name == "limit" {
        schema =
            schema.minimum(Some(1_i64)).maximum(Some(i64::from(PAGE_MAX))).default(Some(PAGE_DEFAULT.into()));
    }
    ParameterBuilder::new()
        .name(*name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(*description))
        .schema(Some(schema))
        .build()
}

fn json_body<T: ToSchema>(schemas: &mut Schemas) -> RequestBody {
    let content = Content::new(Some(reference::<T>(schemas)));
    RequestBodyBuilder::new().content(JSON, content).required(Some(Required::True)).build()
}

fn entry_body(_: &mut Schemas) -> RequestBody {
    let bytes =
        ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).description(Some("at most 4 KiB"));
    RequestBodyBuilder::new()
        .content("application/octet-stream", Content::new(Some(bytes)))
        .required(Some(Required::True))
        .build()
}

fn reference<T: ToSchema>(schemas: &mut Schemas) -> RefOr<Schema> {
    T::schemas(schemas);
    schemas.push((T::name().into_owned(), T::schema()));
    Ref::from_schema_name(T::name()).into()
}

/// Pages are written out where they are used: one name for all of them would stand for only one.
fn page<T: ToSchema>(schemas: &mut Schemas) -> RefOr<Schema> {
    reference::<T>(schemas);
    Page::<T>::schema()
}

fn any_object(_: &mut Schemas) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::Object)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(members) => {
                for (name, member) in members {
                    match member.as_str() {
                        Some(target) if name == "$ref" => found.push(target.to_owned()),
                        _ => references(member, found),
                    }
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn the_document_changes_only_when_somebody_approves_it() {
        insta::assert_snapshot!(openapi().to_pretty_json().unwrap());
    }

    #[test]
    fn every_reference_in_the_document_leads_somewhere() {
        let document = serde_json::to_value(openapi()).unwrap();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for target in found {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target} leads nowhere");
        }
    }
}
