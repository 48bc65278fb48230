//! A component of WASI 0.3 that fetches for others, with whatever it was granted itself.

wit_bindgen::generate!({
    inline: "
        package fixture:reach-async;

        interface fetcher {
            fetch: async func(url: string) -> string;
        }

        world back {
            export fetcher;
        }
    ",
});

struct Back;

impl exports::fixture::reach_async::fetcher::Guest for Back {
    async fn fetch(url: String) -> String {
        fetching_p3::shown(&fetching_p3::Ask { url, ..Default::default() }).await
    }
}

export!(Back);
