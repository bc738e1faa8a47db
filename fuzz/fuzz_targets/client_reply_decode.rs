#![no_main]

kraft_fuzz::fuzz!(client_reply_decode);
