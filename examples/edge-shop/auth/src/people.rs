//! Who may sign in, and what they may do then. In a real service this is a database or an identity provider.

use pbkdf2::pbkdf2_hmac_array;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// Somebody with a password, of which only this is kept: PBKDF2 with HMAC-SHA-256 (RFC 8018, section 5.2).
pub struct Person {
    pub name: &'static str,
    /// What the person may do.
    pub scopes: &'static [&'static str],
    salt: u128,
    derived: [u8; 32],
}

/// What a guess costs. So few that signing in takes a tenth of a second here: a real service takes ten times as many.
const ROUNDS: u32 = 60_000;

/// No password that a person has is longer; deriving a key from it must not be where time is lost.
const PASSWORD_BYTES_MAX: usize = 128;

const PEOPLE: [Person; 3] = [
    Person {
        name: "ada",
        scopes: &["orders:read", "orders:write"],
        salt: 0x2908_2bb8_f3d6_890b_ee24_730b_c636_47d3,
        derived: [
            0x78, 0x63, 0xa7, 0x3c, 0xf7, 0x51, 0x1c, 0xf7, 0x5c, 0x27, 0x22, 0x68, 0x09, 0xa8, 0x2d, 0xaa,
            0x64, 0x05, 0xfe, 0xa3, 0x32, 0x93, 0x11, 0x6b, 0xbd, 0xe0, 0x71, 0x75, 0x03, 0x5c, 0xa7, 0x85,
        ],
    },
    Person {
        name: "bob",
        scopes: &["orders:read"],
        salt: 0x1eca_d013_dadd_609e_b53d_fcc1_d06a_5194,
        derived: [
            0x7e, 0x58, 0x62, 0x2b, 0x5d, 0x08, 0x50, 0xff, 0x1a, 0xb7, 0xba, 0xe5, 0xab, 0x42, 0x0a, 0x98,
            0xf8, 0xd9, 0x0c, 0x4f, 0x5e, 0x33, 0x8f, 0x39, 0xc1, 0x95, 0xb6, 0x35, 0x41, 0x05, 0x0b, 0x0b,
        ],
    },
    Person {
        name: "zoe",
        scopes: &["catalogue:write"],
        salt: 0xda87_52e6_46cf_3777_dee4_1254_01c6_9687,
        derived: [
            0x88, 0x3c, 0x66, 0x2e, 0x81, 0xd7, 0x14, 0x02, 0x67, 0x51, 0x8d, 0x49, 0x20, 0x42, 0x63, 0xf1,
            0x94, 0x9f, 0x2f, 0x05, 0x9e, 0x6a, 0x2c, 0xc4, 0x46, 0x96, 0x08, 0x79, 0xc6, 0x87, 0x38, 0x4f,
        ],
    },
];

/// The person of that name with that password.
pub fn with_password(name: &str, password: &str) -> Option<&'static Person> {
    static ALL: [Person; 3] = PEOPLE;
    if password.len() > PASSWORD_BYTES_MAX {
        return None;
    }
    // For a name that nobody has the work is done as well: how long it takes must not say who is here.
    let person = ALL.iter().find(|person| person.name == name);
    let salt = person.map_or(0, |person| person.salt).to_be_bytes();
    let derived = pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), &salt, ROUNDS);
    person.filter(|person| bool::from(derived.ct_eq(&person.derived)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_of_the_right_person_is_taken() {
        let scopes = |name, password| with_password(name, password).map(|person| person.scopes);
        assert_eq!(scopes("ada", "lovelace"), Some(&["orders:read", "orders:write"][..]));
        assert_eq!(scopes("bob", "builder"), Some(&["orders:read"][..]));
        assert_eq!(scopes("zoe", "shopkeeper"), Some(&["catalogue:write"][..]));
        assert_eq!(scopes("ada", "builder"), None);
        assert_eq!(scopes("eve", "lovelace"), None);
    }

    #[test]
    fn a_password_has_a_longest() {
        assert!(with_password("ada", &"x".repeat(PASSWORD_BYTES_MAX + 1)).is_none());
    }

    #[test]
    fn derives_as_others_do() {
        // From RFC 7914, section 11.
        let derived = pbkdf2_hmac_array::<Sha256, 4>(b"passwd", b"salt", 1);
        assert_eq!(derived, [0x55, 0xac, 0x04, 0x6e]);
    }
}
