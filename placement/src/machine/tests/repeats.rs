//! What is remembered under an idempotency key.

use super::*;

/// The gateway repeats writes under a key: they must have one effect and one answer.
#[test]
fn a_repeated_command_has_one_effect() {
    let mut machine = Machine::new();
    let first = machine.send(NOW, keyed(create("acme"), "key:op", "k1", "b"));
    let again = machine.send(NOW + 1, keyed(create("acme"), "key:op", "k1", "b"));
    assert!(first.seq.is_some() && again.seq.is_none());
    assert_eq!(again.answer, first.answer);
    let code = |applied: Applied| match applied.answer.result {
        Some(Answer::Refusal(why)) => why.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(machine.send(NOW, keyed(create("other"), "key:op", "k1", "b2"))), "ALREADY_EXISTS");
    // Another principal's key is another key.
    assert_eq!(code(machine.send(NOW, keyed(create("acme"), "key:op2", "k1", "b"))), "ALREADY_EXISTS");
    assert_eq!(machine.tenant(delete("acme")).id, 1);
    // A refusal is remembered too, though it would be accepted now.
    assert_eq!(code(machine.send(NOW, keyed(delete("nobody"), "key:op", "k2", "d"))), "NOT_FOUND");
    machine.ok(create("nobody"));
    assert_eq!(code(machine.send(NOW, keyed(delete("nobody"), "key:op", "k2", "d"))), "NOT_FOUND");
}

/// The store must give back no secret, not even its hash, to whoever repeats a call.
#[test]
fn a_replayed_answer_leaves_secrets_out() {
    let mut machine = Machine::new();
    machine.ok(create("acme"));
    for _ in 0..2 {
        let applied = machine.send(NOW, keyed(Op::PutKey(key(0, "acme", "reader")), "key:op", "k", "b"));
        let Some(Answer::Key(answer)) = applied.answer.result else { panic!() };
        assert!(answer.secret_hash.is_empty());
    }
    let (from, to) = Family::Answer.range();
    let hash = [0; 32];
    machine.0.read(|view| {
        view.scan(&from, &to, &mut |_, value| {
            assert!(!value.windows(32).any(|w| w == hash));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    });
}

/// Answers are forgotten by group time and in bounded steps; then the key is free again.
#[test]
fn answers_are_forgotten_in_time() {
    let mut machine = Machine::new();
    let many = answers::FORGOTTEN_AT_ONCE as u64 + 5;
    for n in 0..many {
        machine.send(NOW, keyed(create(&format!("t{n}")), "p", &format!("k{n}"), "b"));
    }
    let short = PlacementCommand { idempotency_ttl_ms: 1000, ..keyed(create("s"), "p", "short", "b") };
    machine.send(NOW, short.clone());
    let remembered = |machine: &Machine| machine.0.read(|view| counters(view)).unwrap().answers;
    assert_eq!(remembered(&machine), many + 1);
    // The gateway's key is forgotten after its own time: the same command is then judged anew.
    let anew = machine.send(NOW + 1000, short);
    assert!(matches!(anew.answer.result, Some(Answer::Refusal(_))));
    machine.send(NOW + answers::DAY_MS, PlacementCommand { op: Some(create("x")), ..Default::default() });
    assert_eq!(remembered(&machine), 6);
    machine.send(NOW + answers::DAY_MS, PlacementCommand { op: Some(create("y")), ..Default::default() });
    assert_eq!(remembered(&machine), 1 - 1);
    assert!(!machine.0.read(|view| exists(view, &Key::Answer { principal: "p".into(), key: "k0".into() })).unwrap());
}
