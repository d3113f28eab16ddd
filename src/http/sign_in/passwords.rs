//! Passwords: what a new one must be like, and their hashes (argon2id).
//!
//! A hash costs 19 MiB and some ten milliseconds by design, so it is worked out on threads that may wait and only a few
//! at once: who floods the sign-in waits for himself. A name that nobody has costs the same as a wrong password.

use std::sync::{Arc, LazyLock};

use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use axum::http::StatusCode;

use crate::http::app::App;
use crate::http::counters::count;
use crate::http::problem::Problem;
use crate::limits::{
    ARGON2_MEMORY_KIB, ARGON2_PASSES, HTTP_WORKER_WAIT, PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN,
};

/// Different characters of a new password at least.
const DIFFERENT_MIN: usize = 5;

fn argon2() -> Argon2<'static> {
    // The limits are within the algorithm's; the library's own default is as strong.
    let params = Params::new(ARGON2_MEMORY_KIB, ARGON2_PASSES, 1, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Verified instead of the hash of a name that nobody has.
static NOBODY: LazyLock<Option<String>> = LazyLock::new(|| hash_now("nobody has this password").ok());

fn hash_now(password: &str) -> Result<String, Problem> {
    let failed = || Problem::internal("the password could not be hashed");
    let mut salt = [0; 16];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| failed())?;
    let hash = argon2().hash_password_with_salt(password.as_bytes(), &salt).map_err(|_| failed())?;
    Ok(hash.to_string())
}

/// The hash of a new password, for a program without a server; or why it can't be one.
pub fn new_password_hash(password: &str, name: &str) -> Result<String, String> {
    let hash = check_new("password", password, name).and_then(|()| hash_now(password));
    hash.map_err(|problem| problem.detail().to_owned())
}

/// Works out something that costs as much as a hash.
async fn costly<T: Send + 'static>(
    app: &Arc<App>,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let places = Arc::clone(&app.sign_in.hashing);
    let Ok(Ok(place)) = tokio::time::timeout(HTTP_WORKER_WAIT, places.acquire_owned()).await else {
        count(&app.counters.busy);
        return Err(Problem::busy());
    };
    let working = tokio::task::spawn_blocking(move || {
        let _place = place;
        job()
    });
    working.await.map_err(|_| Problem::internal("the password could not be checked; the log says why"))
}

/// The hash of a new password.
pub(in crate::http) async fn hash(app: &Arc<App>, password: String) -> Result<String, Problem> {
    costly(app, move || hash_now(&password)).await?
}

/// Whether a password is right. `hash`: what is kept of it; `None` costs the same and is never right.
pub(in crate::http) async fn is_right(
    app: &Arc<App>,
    password: String,
    hash: Option<Arc<str>>,
) -> Result<bool, Problem> {
    if password.len() > PASSWORD_BYTES_MAX {
        return Ok(false);
    }
    costly(app, move || {
        let known = hash.as_deref().or(NOBODY.as_deref());
        let right = known.is_some_and(|known| argon2().verify_password(password.as_bytes(), known).is_ok());
        right && hash.is_some()
    })
    .await
}

/// Refuses a password that is too easily guessed, and says what a right one is like.
pub(in crate::http) fn check_new(field: &'static str, password: &str, name: &str) -> Result<(), Problem> {
    let lower = password.to_lowercase();
    let different = lower.chars().collect::<std::collections::BTreeSet<_>>().len();
    let wrong = if password.chars().count() < PASSWORD_CHARS_MIN {
        "too short"
    } else if password.len() > PASSWORD_BYTES_MAX {
        "too long"
    } else if different < DIFFERENT_MIN {
        "made of too few different characters"
    } else if !name.is_empty() && lower.contains(&name.to_lowercase()) {
        "not to contain the name"
    } else {
        return Ok(());
    };
    let valid = format!(
        "{PASSWORD_CHARS_MIN} characters or more, {DIFFERENT_MIN} of them different, without the name; such as a few words"
    );
    let detail = format!("the password is {wrong}; give {valid}");
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "password-weak", detail).field(field, valid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_the_asked_strength_and_never_twice_the_same() {
        let (one, two) =
            (hash_now("correct horse battery").unwrap(), hash_now("correct horse battery").unwrap());
        assert_ne!(one, two);
        assert!(
            one.starts_with(&format!("$argon2id$v=19$m={ARGON2_MEMORY_KIB},t={ARGON2_PASSES},p=1$")),
            "{one}"
        );
        assert!(argon2().verify_password(b"correct horse battery", one.as_str()).is_ok());
        assert!(argon2().verify_password(b"correct horse batterx", one.as_str()).is_err());
        assert!(one.len() <= crate::limits::PASSWORD_HASH_BYTES_MAX);
    }

    #[test]
    fn weak_passwords_are_refused_with_what_is_right() {
        for weak in ["", "short", "elevenchars", "aaaaaaaaaaaaaaaa", "abababababababab", "my name is Ada!!!"]
        {
            let problem = check_new("password", weak, "ada").unwrap_err();
            assert_eq!(problem.code(), "password-weak", "{weak}");
        }
        assert!(check_new("password", &"x".repeat(PASSWORD_BYTES_MAX + 1), "ada").is_err());
        assert!(check_new("password", "correct horse battery", "ada").is_ok());
        assert!(check_new("password", "пароль очень длинный", "ada").is_ok());
    }
}
