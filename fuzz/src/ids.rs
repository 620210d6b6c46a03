//! Ids have one spelling, and how an id stands to a log is what a list of who wrote what says.

use tidings_core::{Epoch, Epochs, EventId, Seq, Standing};

use crate::input::Input;

/// `id\n, runs…`: each run is a byte for its name and one for how much it wrote.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let text = input.text_line();
    let id = EventId::parse(&text);
    assert_eq!(id.is_some(), is_id(&text), "{text:?}");
    let Some(id) = id else { return };
    assert_eq!(id.to_string(), text, "equal ids are equal text");

    // A log whose runs write for a while, each under a name of its own, and a list of who wrote which position.
    let mut wrote: Vec<String> = Vec::new();
    let first = name(input.byte(), 0);
    let mut epochs = Epochs::first(Epoch::parse(&first).unwrap());
    let mut run = first.clone();
    for number in 1..40 {
        wrote.extend(std::iter::repeat_n(run.clone(), usize::from(input.byte() % 5)));
        if input.is_empty() {
            break;
        }
        run = name(input.byte(), number);
        epochs.open(Epoch::parse(&run).unwrap(), Seq(wrote.len() as u64));
    }
    let head = wrote.len() as u64;
    for seq in 1..=head {
        let at = epochs.id(Seq(seq));
        assert_eq!(at.epoch.as_str(), wrote[seq as usize - 1], "{epochs} at {seq}");
        assert_eq!(epochs.standing(at, Seq(head)), Standing::Known(Seq(seq)));
        let foreign = EventId::new(Epoch::parse("nobody").unwrap(), Seq(seq));
        assert_eq!(epochs.standing(foreign, Seq(head)), Standing::Foreign);
        let above = EventId::new(epochs.newest(), Seq(head + seq));
        assert_eq!(epochs.standing(above, Seq(head)), Standing::Ahead);
    }
    // The id from outside: known only if nothing that its run may have seen was written anew by a later one.
    if let Standing::Known(at) = epochs.standing(id, Seq(head)) {
        let place = |name: &str| epochs.list().iter().position(|(epoch, _)| epoch.as_str() == name);
        let own = place(id.epoch.as_str());
        assert!(at == id.seq && at.0 <= head && own.is_some(), "{id} in {epochs} with head {head}");
        let writer = (at.0 as usize).checked_sub(1).and_then(|index| place(&wrote[index]));
        assert!(writer.is_none() || writer <= own, "{id} in {epochs} with head {head}");
    }
}

/// A name that no other run of the log has.
fn name(byte: u8, number: u32) -> String {
    format!("{}{number}", char::from(b'a' + byte % 26))
}

/// `<epoch>-<seq>` or `<epoch>-<seq>~s`, in at most 40 bytes.
fn is_id(text: &str) -> bool {
    let plain = text.strip_suffix("~s").unwrap_or(text);
    let parts: Vec<&str> = plain.split('-').collect();
    let [epoch, seq] = parts.as_slice() else { return false };
    text.len() <= 40
        && (1..=12).contains(&epoch.len())
        && epoch.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9'))
        && seq.parse::<u64>().is_ok_and(|number| number.to_string() == **seq)
}
