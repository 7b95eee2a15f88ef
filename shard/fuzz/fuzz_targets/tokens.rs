#![no_main]

use conflux_common::ids::TenantId;
use conflux_shard_fuzz::token::Scope;

// Where a watch resumes, as anybody may write it: it is refused, or the one token that means the same says so; of another tenant or
// federation it is nothing.
libfuzzer_sys::fuzz_target!(|text: &str| {
    let east = "east".parse().expect("a name");
    let scope = Scope::new(&east, TenantId(7));
    let Ok(mark) = scope.read(text) else { return };
    assert_eq!(scope.read(&scope.token(mark)).expect("its own token"), mark);
    if text.contains('.') {
        assert_eq!(mark.to_string(), text);
    } else {
        assert_eq!(scope.token(mark), text);
        assert!(Scope::new(&east, TenantId(8)).read(text).is_err());
        assert!(Scope::new(&"west".parse().expect("a name"), TenantId(7)).read(text).is_err());
    }
});
