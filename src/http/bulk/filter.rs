//! Which sensors a bulk change is of, by the parameters of the list of sensors, in a body.
//!
//! `{"site": "Lyon", "health": ["unhealthy", "unsupported"], "connected": false}` finds what
//! `GET /api/v1/sensors?site=Lyon&health=unhealthy,unsupported&connected=false` lists: both are read by one parser.

use axum::http::StatusCode;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::action::Item;
use crate::fleet::Grant;
use crate::http::app::App;
use crate::http::grid::{FILTER, Wanted, chosen};
use crate::http::params::Params;
use crate::http::problem::Problem;
use crate::limits::{BULK_FOUND_MAX, FILTER_VALUES_MAX};

/// Names and values, as they are given.
#[derive(Debug)]
pub(super) struct GivenFilter(Vec<(String, String)>);

/// How a filter looks in a description.
#[derive(Serialize, ToSchema)]
#[schema(as = BulkFilter)]
#[allow(dead_code, reason = "only described")]
pub(super) struct Described {
    #[schema(max_length = 200)]
    q: Option<String>,
    site: Option<ValuesDescribed>,
    zone: Option<ValuesDescribed>,
    subscription: Option<ValuesDescribed>,
    r#type: Option<ValuesDescribed>,
    lifecycle: Option<ValuesDescribed>,
    health: Option<ValuesDescribed>,
    code: Option<ValuesDescribed>,
    version: Option<String>,
    tag: Option<ValuesDescribed>,
    #[schema(max_length = 200)]
    owner: Option<String>,
    connected: Option<bool>,
    ti_mode: Option<ValuesDescribed>,
    ti_status: Option<ValuesDescribed>,
}

/// How the values of a parameter look in a description.
#[derive(Serialize, ToSchema)]
#[schema(as = BulkFilterValues)]
#[allow(dead_code, reason = "only described")]
#[serde(untagged)]
enum ValuesDescribed {
    One(String),
    Any(Vec<String>),
}

impl GivenFilter {
    /// What it asks for. `all` says that an empty one is meant: a slip of the hand must not change a fleet.
    pub(super) fn read(self, all: bool) -> Result<Wanted, Problem> {
        let mut params = Params::of(self.0);
        let wanted = Wanted::read(&mut params).map_err(|problem| problem.within("filter"))?;
        params.finish(&FILTER).map_err(|problem| problem.within("filter"))?;
        match (wanted.is_everybody(), all) {
            (true, false) => {
                let valid = "a filter that leaves some out, or `\"all\": true` beside it";
                let detail =
                    format!("`filter` is empty, and would find every sensor that you may see; give {valid}");
                let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "filter-empty", detail);
                Err(problem.field("filter", valid))
            }
            (false, true) => Err(super::unfitting("all", "`filter` leaves some out", "one of the two")),
            _ => Ok(wanted),
        }
    }
}

/// The sensors that it finds now, by name.
pub(super) fn find(app: &App, grants: &[Grant], wanted: Wanted, most: usize) -> Result<Vec<Item>, Problem> {
    let (ids, total) = chosen(app, grants, wanted, most).map_err(|problem| problem.within("filter"))?;
    if total > most {
        let rest = match most == BULK_FOUND_MAX {
            true => "narrow it, by site for example, and go on with the rest",
            false => "look again what it finds, or leave `at_most` out",
        };
        let detail = format!("`filter` finds {total} sensors, and at most {most} are to be changed; {rest}");
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "too-many", detail);
        return Err(problem.field("filter", format!("a filter that finds at most {most}")));
    }
    Ok(ids.into_iter().map(|id| Item { id, name: None }).collect())
}

impl<'de> Deserialize<'de> for GivenFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<GivenFilter, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = GivenFilter;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object with parameters of the list of sensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<GivenFilter, A::Error> {
                let mut pairs = Vec::new();
                while let Some((name, Values(values))) = map.next_entry::<String, Values>()? {
                    pairs.extend(values.into_iter().map(|value| (name.clone(), value)));
                }
                Ok(GivenFilter(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// What one parameter is given.
struct Values(Vec<String>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Values, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Values;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text, true, false, or a list of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Values, E> {
                Ok(Values(vec![text.to_owned()]))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Values, E> {
                Ok(Values(vec![value.to_string()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = list.next_element::<String>()? {
                    if values.len() == FILTER_VALUES_MAX {
                        return Err(de::Error::invalid_length(values.len() + 1, &"at most 100 texts"));
                    }
                    values.push(value);
                }
                Ok(Values(values))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}
