//! API keys: `cfx_<id>_<secret>`, made by the serving process, stored and replicated only as a hash (ADR 1).
//!
//! The id (16 characters, 80 bits) finds the record; the secret (32 random bytes, base64url, 43 characters) proves the
//! holder. With 256 random bits a slow hash adds nothing, so SHA-256 is kept.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::Rng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What every key begins with, so that secret scanners find a leaked one.
pub const PREFIX: &str = "cfx_";
/// Characters of the id.
pub const ID_LEN: usize = 16;
/// Characters of the secret: 32 bytes in base64url.
pub const SECRET_LEN: usize = 43;

const ID_ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The text is no API key. Says nothing of the text itself, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an API key: expected cfx_<16 characters>_<43 characters>")]
pub struct InvalidApiKey;

/// An API key as its holder has it. `Debug` shows only the id.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    id: String,
    secret: [u8; 32],
}

impl ApiKey {
    /// A new one, from the system's random numbers.
    pub fn generate() -> Self {
        let mut random = rand::rng();
        let id = (0..ID_LEN).map(|_| char::from(ID_ALPHABET[random.random_range(0..ID_ALPHABET.len())])).collect();
        Self { id, secret: random.random() }
    }

    /// Reads what a client presents. One text for each key: anything but the canonical form is refused.
    pub fn parse(text: &str) -> Result<Self, InvalidApiKey> {
        let rest = text.strip_prefix(PREFIX).ok_or(InvalidApiKey)?;
        let (id, rest) = rest.split_at_checked(ID_LEN).ok_or(InvalidApiKey)?;
        let secret = rest.strip_prefix('_').filter(|s| s.len() == SECRET_LEN).ok_or(InvalidApiKey)?;
        if !is_key_id(id) {
            return Err(InvalidApiKey);
        }
        let bytes = URL_SAFE_NO_PAD.decode(secret).map_err(|_| InvalidApiKey)?;
        Ok(Self { id: id.to_owned(), secret: bytes.try_into().map_err(|_| InvalidApiKey)? })
    }

    /// Names the key without giving it away: in records, logs and lists.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What is stored: SHA-256 of the secret's 32 bytes.
    pub fn secret_hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret).into()
    }

    /// The whole key, for the one answer that hands it out.
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, URL_SAFE_NO_PAD.encode(self.secret))
    }

    /// Whether this is the key whose hash is stored. Takes the same time whatever differs, and also when the id is
    /// unknown (`None`): then it compares against a dummy and says no.
    pub fn matches(&self, stored_hash: Option<&[u8]>) -> bool {
        let own = self.secret_hash();
        let known = matches!(stored_hash, Some(hash) if hash.len() == own.len());
        let other = if known { stored_hash.unwrap_or(&[0; 32]) } else { &[0; 32] };
        bool::from(own.as_slice().ct_eq(other)) && known
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({}, ..)", self.id)
    }
}

/// Whether this can be the id of a key: 16 lower-case letters and digits.
pub fn is_key_id(text: &str) -> bool {
    text.len() == ID_LEN && text.bytes().all(|b| ID_ALPHABET.contains(&b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The form is a contract with clients, scanners and stored hashes: it must never change.
    #[test]
    fn the_form_is_pinned() {
        let text = "cfx_abcdefghijkl2345_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
        let key = ApiKey::parse(text).unwrap();
        assert_eq!(key.id(), "abcdefghijkl2345");
        assert_eq!(key.expose(), text);
        let hash: String = key.secret_hash().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hash, "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd");
    }

    /// Only the holder of the very secret passes, and an unknown id never does.
    #[test]
    fn only_its_own_hash_matches() {
        let (key, other) = (ApiKey::generate(), ApiKey::generate());
        assert!(key.matches(Some(&key.secret_hash())));
        assert!(!key.matches(Some(&other.secret_hash())));
        assert!(!key.matches(None));
        assert!(!key.matches(Some(&[])));
        assert!(!key.matches(Some(&key.secret_hash()[..31])));
    }

    /// A key that is logged by accident must not give itself away.
    #[test]
    fn debug_hides_the_secret() {
        let key = ApiKey::generate();
        let secret = key.expose().split_off(PREFIX.len() + ID_LEN + 1);
        assert!(!format!("{key:?}").contains(&secret));
    }

    /// Two texts for one key would let a revoked or logged one be presented in disguise.
    #[test]
    fn other_forms_are_refused() {
        let good = ApiKey::generate().expose();
        for bad in
            ["", "cfx_", "Bearer x", &good[1..], &good[..good.len() - 1], &format!("{good}="), &format!("{good} ")]
        {
            assert_eq!(ApiKey::parse(bad), Err(InvalidApiKey), "{bad:?}");
        }
        assert!(ApiKey::parse(&good.to_uppercase()).is_err());
        // The last character holds two unused bits: they must be zero.
        assert!(ApiKey::parse("cfx_abcdefghijkl2345_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9").is_err());
    }

    proptest! {
        /// What is handed out is read again, and no text makes the reader panic.
        #[test]
        fn round_trip_and_no_panic(text in "\\PC{0,80}") {
            let key = ApiKey::generate();
            prop_assert_eq!(ApiKey::parse(&key.expose()).unwrap(), key);
            if let Ok(key) = ApiKey::parse(&text) { prop_assert_eq!(key.expose(), text); }
        }
    }
}
