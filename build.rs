//! Tells the bindings which Python they are built for (`Py_GIL_DISABLED` and the version), and whether the target has the shared
//! cache: on other systems that crate is empty.

use std::env::var;

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
    println!("cargo::rustc-check-cfg=cfg(has_shared_cache)");
    let is = |what: &str, one_of: &[&str]| {
        var(format!("CARGO_CFG_TARGET_{what}")).is_ok_and(|value| one_of.contains(&value.as_str()))
    };
    if is("OS", &["linux", "macos", "windows"]) && is("POINTER_WIDTH", &["64"]) && is("ENDIAN", &["little"]) {
        println!("cargo::rustc-cfg=has_shared_cache");
    }
}
