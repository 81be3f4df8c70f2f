run lambda { |environment|
  [200, { 'content-type' => 'text/plain' }, ["generation #{ENV['GATEWAY_GENERATION']} pid #{Process.pid}\n"]]
}
