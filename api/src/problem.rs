//! Errors as the API tells them.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Media type of a [`Problem`] (RFC 9457, section 3).
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong with a request (RFC 9457, "Problem Details for HTTP APIs").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem: `urn:commonwatt:problem:<code>`. Stable, made for programs.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in a few words, the same for every occurrence.
    pub title: String,
    /// The HTTP status code, repeated.
    pub status: u16,
    /// This occurrence: what, where, and what to do about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl Problem {
    /// A problem of the kind `code` (lower case with hyphens).
    #[must_use]
    pub fn new(status: u16, code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:commonwatt:problem:{code}"),
            title: title.to_owned(),
            status,
            detail: detail.into(),
        }
    }

    /// The last part of its type, e.g. `unauthorized`.
    #[must_use]
    pub fn code(&self) -> &str {
        self.kind.rsplit(':').next().unwrap_or_default()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail.as_str() {
            "" => write!(f, "{} ({})", self.title, self.status),
            detail => write!(f, "{} ({}): {detail}", self.title, self.status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_members_of_rfc_9457() {
        let problem = Problem::new(404, "not-found", "no such resource", "nothing at /x");
        assert_eq!(
            serde_json::to_string(&problem).unwrap(),
            r#"{"type":"urn:commonwatt:problem:not-found","title":"no such resource","status":404,"detail":"nothing at /x"}"#
        );
        assert_eq!(problem.code(), "not-found");
        assert_eq!(problem.to_string(), "no such resource (404): nothing at /x");
    }
}
