//! Grants as the API has them, and whether somebody may give them.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::caller::Caller;
use super::problem::{Problem, shown};
use crate::fleet::{Grant, Register, Role, Scope};

/// A role over everything, over one subscription, or over one site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Grant)]
pub(super) struct GrantDocument {
    /// `reader` sees the fleet, `operator` runs it, `administrator` decides who may do what.
    role: RoleDocument,
    /// Only in this subscription. At most one of `subscription` and `site`; neither = everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = Uuid)]
    subscription: Option<String>,
    /// Only in this site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = Uuid)]
    site: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = Role)]
enum RoleDocument {
    Reader,
    Operator,
    Administrator,
}

/// As the API shows them.
pub(super) fn documents(grants: &[Grant]) -> Vec<GrantDocument> {
    let document = |grant: &Grant| GrantDocument {
        role: match grant.role {
            Role::Reader => RoleDocument::Reader,
            Role::Operator => RoleDocument::Operator,
            Role::Administrator => RoleDocument::Administrator,
        },
        subscription: match grant.scope {
            Scope::Subscription(id) => Some(id.to_string()),
            _ => None,
        },
        site: match grant.scope {
            Scope::Site(id) => Some(id.to_string()),
            _ => None,
        },
    };
    grants.iter().map(document).collect()
}

/// As the register has them.
pub(super) fn read(documents: &[GrantDocument]) -> Result<Vec<Grant>, Problem> {
    let read = |(place, document): (usize, &GrantDocument)| {
        let id_of = |name: &str, text: &str| {
            let detail = format!("`grants[{place}].{name}` is {}; give a UUID", shown(text));
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-field", detail)
                .field(format!("grants[{place}].{name}"), "a UUID")
        };
        let scope = match (&document.subscription, &document.site) {
            (None, None) => Scope::All,
            (Some(id), None) => Scope::Subscription(id.parse().map_err(|_| id_of("subscription", id))?),
            (None, Some(id)) => Scope::Site(id.parse().map_err(|_| id_of("site", id))?),
            (Some(_), Some(_)) => {
                let detail = "a grant is for one subscription or for one site; give two grants for both";
                return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-field", detail)
                    .field(format!("grants[{place}].site"), "no `subscription` beside it"));
            }
        };
        let role = match document.role {
            RoleDocument::Reader => Role::Reader,
            RoleDocument::Operator => Role::Operator,
            RoleDocument::Administrator => Role::Administrator,
        };
        Ok(Grant { role, scope })
    };
    documents.iter().enumerate().map(read).collect()
}

/// Place of the first of these grants that the caller's own do not cover.
pub(super) fn beyond(caller: &Caller, register: &Register, grants: &[Grant]) -> Option<usize> {
    let covers = |own: &Grant, grant: &Grant| {
        let scope = match (own.scope, grant.scope) {
            (Scope::All, _) => true,
            (Scope::Subscription(id), Scope::Site(site)) => {
                register.site(site).is_some_and(|site| site.subscription == id)
            }
            (own, wanted) => own == wanted,
        };
        scope && own.role >= grant.role
    };
    grants.iter().position(|grant| !caller.grants.iter().any(|own| covers(own, grant)))
}

/// Nobody gives away what they do not have.
pub(super) fn may_give(caller: &Caller, register: &Register, grants: &[Grant]) -> Result<(), Problem> {
    let Some(place) = beyond(caller, register, grants) else { return Ok(()) };
    let detail = "a grant beyond your own can't be given";
    Err(Problem::new(StatusCode::FORBIDDEN, "beyond-own-grants", detail)
        .field(format!("grants[{place}]"), "at most what `GET /api/v1/session` shows as yours"))
}
