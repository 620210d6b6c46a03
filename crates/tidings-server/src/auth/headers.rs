//! Credentials in a request's head.
//!
//! Owns: reading `Authorization: Bearer` and one cookie. Does not know: what they mean.
//! Flow: headers → the text of a token, or none.

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};
use tidings::auth::AuthError;

/// The token of `Authorization: Bearer`. Other schemes are somebody else's: a proxy's password, say.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, AuthError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(AuthError::Invalid("there are two Authorization headers".into()));
    }
    let bytes = value.as_bytes();
    let is_bearer = bytes.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
    if !is_bearer {
        return Ok(None);
    }
    let token = value.to_str().ok().and_then(|text| text.get(7..)).map(str::trim);
    match token {
        Some(token) if !token.is_empty() => Ok(Some(token)),
        _ => Err(AuthError::Invalid("there is no token behind Bearer".into())),
    }
}

/// The value of a cookie. One that comes twice with different values is none: a neighbouring host may have set the other.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let texts = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(found, _)| found.trim() == name).map(|(_, value)| value.trim());
    let first = values.next()?;
    let value = first.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(first);
    (!value.is_empty() && values.all(|other| other == first)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(http::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_bearer_token_is_one_word_of_one_header() {
        let read = |value: &str| bearer(&of(&[(AUTHORIZATION, value)])).map(|t| t.map(str::to_owned));
        assert_eq!(read("Bearer abc"), Ok(Some("abc".into())));
        assert_eq!(read("bEARER  abc"), Ok(Some("abc".into())));
        assert_eq!(read("Basic abc"), Ok(None));
        assert_eq!(read("Bear"), Ok(None));
        assert!(read("Bearer ").is_err());
        assert!(read("Bearer \u{e4}").is_err());
        assert!(bearer(&of(&[(AUTHORIZATION, "Bearer a"), (AUTHORIZATION, "Basic b")])).is_err());
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name_and_counts_only_if_it_is_not_contradicted() {
        let read = |values: &[&str]| {
            let pairs: Vec<_> = values.iter().map(|v| (COOKIE, *v)).collect();
            cookie(&of(&pairs), "tidings").map(str::to_owned)
        };
        assert_eq!(read(&["a=1; tidings=x; b=2"]), Some("x".into()));
        assert_eq!(read(&["tidings=\"x\""]), Some("x".into()));
        assert_eq!(read(&["a=1", "tidings=x"]), Some("x".into()), "HTTP/2 may send one header for each");
        assert_eq!(read(&["xtidings=y; tidings2=z; Tidings=w"]), None);
        assert_eq!(read(&["tidings=x; tidings=y"]), None);
        assert_eq!(read(&["tidings=x; tidings=x"]), Some("x".into()));
        assert_eq!(read(&["tidings="]), None);
        assert_eq!(read(&["tidings"]), None);
    }
}
