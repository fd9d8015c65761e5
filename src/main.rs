//! The `gleaner` command: everything is in the library, see [`gleaner::cli`].

/// Parsing a page is thousands of small allocations, and pages are parsed on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    gleaner::cli::main()
}
