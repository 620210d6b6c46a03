//! A setting means the same as a flag and in the environment, what is refused is refused both ways, and nobody serves the
//! world by a slip.

use std::sync::LazyLock;

use tidings_server::testing::{Setting, Told, serve, settings, unknown};

use crate::input::Input;

static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(settings);

/// `setting, value\n` as often as one likes, then an empty line and a name.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut chosen: Vec<(&Setting, String)> = Vec::new();
    while !input.is_empty() && chosen.len() < 16 {
        let setting = &SETTINGS[usize::from(input.byte()) % SETTINGS.len()];
        let value = input.text_line().into_owned();
        if value.is_empty() {
            break;
        }
        // Neither form can say these, or they say them differently: a process has no NUL, a list of one is a list.
        let is_twice = chosen.iter().any(|(other, _)| other.flag == setting.flag);
        if !is_twice && !value.contains('\0') {
            chosen.push((setting, value));
        }
    }
    let flag = |(setting, value): &(&Setting, String)| match setting.is_valued {
        true => format!("{}={value}", setting.flag),
        false => setting.flag.clone(),
    };
    let by_flags = serve(&chosen.iter().map(flag).collect::<Vec<_>>());
    let by_environment = in_environment(&chosen);
    assert_eq!(by_flags, by_environment, "{chosen:?}");
    if let Ok(told) = &by_flags {
        assert_eq!(told.is_dev, told.source.is_none(), "{told:?}");
        assert!(!told.is_dev || told.is_loopback, "without authentication for everybody: {told:?}");
    }
    name(&input.text_line());
}

fn in_environment(chosen: &[(&Setting, String)]) -> Result<Told, String> {
    for (setting, value) in chosen {
        let value = if setting.is_valued { value } else { "true" };
        // SAFETY: this target has one thread, and libFuzzer's own do not read the environment.
        unsafe { std::env::set_var(&setting.variable, value) }
    }
    let told = serve(&[]);
    for (setting, _) in chosen {
        // SAFETY: as above.
        unsafe { std::env::remove_var(&setting.variable) }
    }
    told
}

/// A name that begins like ours and is no setting of any command is refused, and what is suggested is one.
fn name(text: &str) {
    let is_setting = |name: &str| SETTINGS.iter().any(|setting| setting.variable == name);
    let found = unknown(vec!["PATH".to_owned(), text.to_owned(), "TIDINGS_LISTEN".to_owned()]);
    match found {
        Some((name, near)) => {
            assert!(name == text && name.starts_with("TIDINGS_") && !is_setting(&name), "{name}");
            assert!(near.is_none_or(|near| unknown(vec![near]).is_none()), "{name}");
        }
        None => {
            assert!(!text.starts_with("TIDINGS_") || is_setting(text) || OTHERS.contains(&text), "{text}")
        }
    }
}

/// Names of other commands, and without a flag.
const OTHERS: &[&str] = &[
    "TIDINGS_JWT_SECRET",
    "TIDINGS_TOKEN",
    "TIDINGS_TOKEN_FILE",
    "TIDINGS_URL",
    "TIDINGS_EVENT",
    "TIDINGS_TEXT",
    "TIDINGS_ROWS_PER_SECOND",
];
