//! Query parameters: each resource names those that it knows; the others, and values that can't be read, are
//! refused by name.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;

use super::problem::{Problem, shown};
use crate::limits::PAGE_MAX;
use crate::time::UnixMillis;

/// Parameters of one request that were not taken yet.
pub(super) struct Params(Vec<(String, String)>);

/// Parameters that one request may have.
const PARAMS_MAX: usize = 32;

impl Params {
    /// From the query part of a URI.
    pub(super) fn parse(query: Option<&str>) -> Result<Params, Problem> {
        let pairs: Vec<(String, String)> = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            .take(PARAMS_MAX + 1)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        if pairs.len() > PARAMS_MAX {
            return Err(Problem::bad_parameter("", "too many", &format!("at most {PARAMS_MAX} parameters")));
        }
        Ok(Params(pairs))
    }

    /// From names and values that stand somewhere else, within a bound of their own.
    pub(super) fn of(pairs: Vec<(String, String)>) -> Params {
        Params(pairs)
    }

    /// The value of a parameter that may be there once.
    pub(super) fn take(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let mut values = self.take_all(name);
        let first = values.pop();
        if values.is_empty() { Ok(first) } else { Err(Problem::bad_parameter(name, "twice", "one value")) }
    }

    /// All values of a parameter that may be there several times, or with commas.
    pub(super) fn take_all(&mut self, name: &str) -> Vec<String> {
        let mut values = Vec::new();
        self.0.retain_mut(|(there, value)| {
            let wanted = there == name;
            if wanted {
                values.push(std::mem::take(value));
            }
            !wanted
        });
        values
    }

    /// A parameter that is read by its type's own rules.
    pub(super) fn read<T>(&mut self, name: &str) -> Result<Option<T>, Problem>
    where
        T: FromStr<Err: Display>,
    {
        let Some(text) = self.take(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|error: T::Err| Problem::bad_value(name, &text, &error.to_string()))
    }

    /// One of a list of names.
    pub(super) fn choice<T>(
        &mut self,
        name: &str,
        find: impl Fn(&str) -> Option<T>,
        valid: impl Fn() -> Vec<&'static str>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.take(name)? else { return Ok(None) };
        find(&text)
            .map(Some)
            .ok_or_else(|| Problem::bad_value(name, &text, &format!("one of {}", valid().join(", "))))
    }

    /// A time: RFC 3339 with any offset.
    pub(super) fn time(&mut self, name: &str) -> Result<Option<UnixMillis>, Problem> {
        let Some(text) = self.take(name)? else { return Ok(None) };
        match text.parse::<jiff::Timestamp>() {
            Ok(at) => Ok(Some(UnixMillis(at.as_millisecond()))),
            Err(_) => {
                let valid = "a time such as 2026-11-24T16:00:00Z (RFC 3339; write + as %2B in a URL)";
                Err(Problem::bad_value(name, &text, valid))
            }
        }
    }

    /// `from` and `until`, in order.
    pub(super) fn range(&mut self) -> Result<(Option<UnixMillis>, Option<UnixMillis>), Problem> {
        let (from, until) = (self.time("from")?, self.time("until")?);
        if let (Some(from), Some(until)) = (from, until)
            && from >= until
        {
            return Err(Problem::bad_parameter("until", "not after `from`", "a time after `from`"));
        }
        Ok((from, until))
    }

    /// `limit`: entries of one page.
    pub(super) fn limit(&mut self, most: usize) -> Result<Option<usize>, Problem> {
        let Some(text) = self.take("limit")? else { return Ok(None) };
        match text.parse() {
            Ok(limit) if (1..=most).contains(&limit) => Ok(Some(limit)),
            _ => Err(Problem::bad_value("limit", &text, &format!("a whole number from 1 to {most}"))),
        }
    }

    /// `limit` of an ordinary list.
    pub(super) fn page_limit(&mut self) -> Result<usize, Problem> {
        Ok(self.limit(PAGE_MAX)?.unwrap_or(PAGE_DEFAULT))
    }

    /// Refuses what nobody took. `known` is what there would be.
    pub(super) fn finish(self, known: &[&str]) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Problem::unknown_parameter(name, known)),
        }
    }
}

/// Entries of a page when nobody says how many.
const PAGE_DEFAULT: usize = 100;

/// The id in a path: the part `{id}` of the route.
#[derive(Clone, Copy, Debug)]
pub(super) struct Id<T>(pub(super) T);

impl<T, S> FromRequestParts<S> for Id<T>
where
    T: FromStr<Err: Display>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Id<T>, Problem> {
        let unreadable = || Problem::bad_parameter("id", "it is no text", "an id");
        let all = RawPathParams::from_request_parts(parts, state).await.map_err(|_| unreadable())?;
        let found = all.iter().find(|(name, _)| *name == "id").ok_or_else(unreadable)?;
        path_id("id", found.1).map(Id)
    }
}

/// The id in a path.
pub(super) fn path_id<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error: T::Err| {
        Problem::bad_parameter(name, &format!("is {}", shown(text)), &error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::SensorId;

    fn params(query: &str) -> Params {
        Params::parse(Some(query)).unwrap()
    }

    #[test]
    fn what_nobody_knows_is_refused_by_name() {
        let mut some = params("sensor=1&colour=red");
        some.take("sensor").unwrap();
        let problem = serde_json::to_value(some.finish(&["sensor", "site"]).unwrap_err()).unwrap();
        assert_eq!(problem["code"], "unknown-parameter");
        assert_eq!(problem["field"], "colour");
        assert_eq!(problem["valid"], "one of sensor, site");
        assert!(params("").finish(&[]).is_ok());
    }

    #[test]
    fn values_are_read_or_refused_with_what_would_be_right() {
        let field = |result: Problem| serde_json::to_value(result).unwrap()["field"].clone();
        assert_eq!(field(params("sensor=x").read::<SensorId>("sensor").unwrap_err()), "sensor");
        assert_eq!(field(params("sensor=1&sensor=2").take("sensor").unwrap_err()), "sensor");
        for time in ["2026-11-24T16%3A00%3A00%2B01:00", "2026-11-24T15:00:00Z", "2026-11-24t15:00:00.000z"] {
            let read = params(&format!("from={time}")).time("from").unwrap();
            assert_eq!(read, Some(UnixMillis(1_795_532_400_000)), "{time}");
        }
        for time in ["", "yesterday", "2026-11-24", "1795532400", "99999-01-01T00:00:00Z", "%00%ff"] {
            assert_eq!(field(params(&format!("from={time}")).time("from").unwrap_err()), "from", "{time}");
        }
        let backwards = "from=2026-11-24T15:00:00Z&until=2026-11-24T15:00:00Z";
        assert_eq!(field(params(backwards).range().unwrap_err()), "until");
        for limit in ["0", "-1", "1001", "x", "", "99999999999999999999"] {
            assert_eq!(field(params(&format!("limit={limit}")).page_limit().unwrap_err()), "limit");
        }
        assert_eq!(params("limit=7").page_limit().unwrap(), 7);
        assert!(Params::parse(Some(&"a=1&".repeat(33))).is_err());
    }
}
