//! Roles as people write them: `operator`, `operator:site=Lyon`, `reader:subscription=North`.

use serde_json::{Value, json};

use super::Client;
use super::find::{SITE, SUBSCRIPTION};
use crate::cli::Failure;

/// A role, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    role: String,
    within: Option<(Scope, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Site,
    Subscription,
}

/// What a grant is, for help.
pub(super) const HELP: &str = "reader, operator or administrator; everywhere, or only somewhere as in \
    operator:site=Lyon or reader:subscription=North; may be repeated";

/// As the command line has it.
pub(super) fn grant(text: &str) -> Result<Grant, String> {
    let (role, scope) = text.split_once(':').map_or((text, None), |(role, scope)| (role, Some(scope)));
    if !["reader", "operator", "administrator"].contains(&role) {
        return Err("roles are reader, operator, administrator".to_owned());
    }
    let within = match scope.map(|scope| scope.split_once('=')) {
        None => None,
        Some(Some(("site", name))) if !name.is_empty() => Some((Scope::Site, name.to_owned())),
        Some(Some(("subscription", name))) if !name.is_empty() => {
            Some((Scope::Subscription, name.to_owned()))
        }
        _ => return Err("after the colon comes site=NAME or subscription=NAME".to_owned()),
    };
    Ok(Grant { role: role.to_owned(), within })
}

/// As the API has them.
pub(super) fn documents(client: &Client, grants: &[Grant]) -> Result<Value, Failure> {
    let document = |grant: &Grant| {
        let mut document = json!({ "role": grant.role });
        match &grant.within {
            Some((Scope::Site, name)) => document["site"] = json!(client.find(SITE, name, &[])?.id),
            Some((Scope::Subscription, name)) => {
                document["subscription"] = json!(client.find(SUBSCRIPTION, name, &[])?.id);
            }
            None => {}
        }
        Ok(document)
    };
    grants.iter().map(document).collect::<Result<Vec<_>, Failure>>().map(Value::Array)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read_as_people_write_them() {
        let read = grant("operator:site=Lyon south").unwrap();
        assert_eq!(read, Grant { role: "operator".into(), within: Some((Scope::Site, "Lyon south".into())) });
        assert_eq!(grant("reader").unwrap().within, None);
        for wrong in ["", "root", "reader:", "reader:site", "reader:site=", "reader:zone=1"] {
            assert!(grant(wrong).is_err(), "{wrong}");
        }
    }
}
