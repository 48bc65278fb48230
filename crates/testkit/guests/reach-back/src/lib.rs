//! A component that fetches for others, with whatever it was granted itself.

wit_bindgen::generate!({
    inline: "
        package fixture:reach;

        interface fetcher {
            fetch: func(url: string) -> string;
        }

        world back {
            export fetcher;
        }
    ",
});

struct Back;

impl exports::fixture::reach::fetcher::Guest for Back {
    fn fetch(url: String) -> String {
        fetching::shown(&fetching::Ask { url, ..Default::default() })
    }
}

export!(Back);
