//! From create to delete: which verb is allowed when, and what it leaves.

use pintle_tests::*;

#[test]
fn create_prepares_everything_but_does_not_run_the_program() {
    behaviour(|| {
        let t = Sandbox::new();
        let mut b = t.bundle();
        b.args(&["/probe", "print", "hello"]);
        let c = t.create(&b);
        assert_eq!(c.status(), "created");
        assert_eq!(c.stdout(), "");
        c.start().ok();
        c.wait_for_output("hello");
        c.wait_until("stopped");
    });
}
